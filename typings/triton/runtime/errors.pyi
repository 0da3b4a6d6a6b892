class OutOfResources(Exception):  # noqa: N818
    required: int
    limit: int
    name: str
    def __init__(self, required: int, limit: int, name: str) -> None: ...
