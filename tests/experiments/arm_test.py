"""Which arm is served: by name or by module, with the fields that are set."""

import subprocess
import sys

import pytest

from environments.arm import driver, twin
from experiments import arm


def test_a_driver_is_chosen_by_name_and_its_fields_by_theirs():
  assert arm.driver_config("twin", []) == twin.TwinConfig()
  settings = ["is_real_time=True", "mass_scale=1.5", "table_rgb=(0.5, 0.5, 0.5)"]
  expected = twin.TwinConfig(is_real_time=True, mass_scale=1.5, table_rgb=(0.5, 0.5, 0.5))
  assert arm.driver_config("twin", settings) == expected
  assert arm.driver_config("kinova", ["library=/opt/kinova.so"]).library == "/opt/kinova.so"
  assert arm.driver_config("tests.environments.arm_rig:RigConfig", ["path=/tmp/rig"]).path == "/tmp/rig"


@pytest.mark.parametrize(
  ("name", "settings", "message"),
  [
    ("twn", [], "--driver=twn is unknown; give package.module:Config or one of twin, kinova"),
    ("twin", ["mass=2"], "--driver=twin --set=mass=2: .* unexpected keyword argument 'mass'"),
    ("kinova", [], "missing 1 required positional argument: 'library'"),
  ],
)
def test_a_mistake_is_one_line(name, settings, message):
  with pytest.raises(ValueError, match=message) as mistake:
    arm.driver_config(name, settings)
  assert "\n" not in str(mistake.value)


def test_who_serves_a_real_arm_imports_no_simulated_one():
  code = (
    "import sys\n"
    "from environments.arm import server\n"
    "from experiments import arm\n"
    "arm.driver_config('kinova', ['library=/opt/kinova.so'])\n"
    "print([name for name in sys.modules if name in ('environments.arm.twin', 'dm_control')])"
  )
  command = [sys.executable, "-c", code]
  variables = driver.environment_variables() | {"JAX_PLATFORMS": "cpu"}
  printed = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
  assert printed.stdout == "[]\n"
