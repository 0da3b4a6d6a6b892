from typing import Any

class CodeGenerator:
    visit: Any
    visit_Slice: Any  # noqa: N815
    visit_Subscript_Store: Any  # noqa: N815
