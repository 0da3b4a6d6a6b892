from typing import Any

class CodeGenerator:
    call_Function: Any  # noqa: N815
    visit: Any
    visit_Slice: Any  # noqa: N815
    visit_Subscript_Store: Any  # noqa: N815
