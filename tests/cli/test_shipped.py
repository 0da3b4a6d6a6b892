"""Files that come with the modules are where an installed package looks for them."""

import re
import tomllib


def test_a_wheel_has_what_commands_look_for(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    texts = [path.read_text(encoding="utf-8") for path in (repository / "mlutriton" / "cli").glob("*.py")]
    asked = [each for text in texts for each in re.findall(r'shipped\("(\w+)", in_checkout="([\w/]+)"\)', text)]
    assert included == {in_checkout: f"mlutriton/{installed}" for installed, in_checkout in asked}
    assert all((repository / in_checkout).is_dir() for in_checkout in included)
