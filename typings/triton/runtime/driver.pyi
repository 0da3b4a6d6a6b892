from typing import Any

class DriverConfig:
    active: Any
    def set_active(self, driver: object) -> None: ...

driver: DriverConfig
