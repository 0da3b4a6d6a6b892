from typing import Any

class CodeGenerator:
    visit: Any
