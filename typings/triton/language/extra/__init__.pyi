from types import ModuleType

libdevice: ModuleType
