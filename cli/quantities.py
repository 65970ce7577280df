"""Identified quantities in units that are easy to read."""

from wpg.export.record import Record
from wpg.sim_envs.identification.identify import Quantity


class Shown(Record, frozen=True, kw_only=True):
    """How a field of ``actuators.toml`` is shown."""

    title: str
    unit: str
    factor: float = 1.0
    decimals: int = 3

    @property
    def name(self) -> str:
        """The title up to its first comma."""
        return self.title.partition(",")[0]


SHOWN = {
    "action_delay_s": Shown(title="delay, setpoint to effect and back", unit="ms", factor=1e3, decimals=2),
    "payload_kg": Shown(title="payload", unit="kg"),
    "lag_s": Shown(title="lag", unit="ms", factor=1e3, decimals=2),
    "coulomb_friction_nm": Shown(title="dry friction", unit="Nm"),
    "viscous_friction_nm_s_rad": Shown(title="viscous friction", unit="Nm s/rad"),
    "stiffness_factor": Shown(title="position gain, of the model's", unit="%", factor=100.0, decimals=1),
    "damping_factor": Shown(title="velocity gain, of the model's", unit="%", factor=100.0, decimals=1),
    "joint_pos_offset_rad": Shown(title="encoder offset", unit="mrad", factor=1e3, decimals=2),
    "joint_pos_noise_rad": Shown(title="position noise, standard deviation", unit="mrad", factor=1e3),
    "joint_vel_noise_rad_s": Shown(title="velocity noise, standard deviation", unit="mrad/s", factor=1e3),
}


def as_shown(field: str, number: float) -> str:
    """A value of a field as text, in the unit of display."""
    shown = SHOWN[field]
    return f"{round(shown.factor * number, shown.decimals) + 0.0:.{shown.decimals}f}"  # + 0.0 turns -0 into 0


def value_and_interval(quantity: Quantity) -> tuple[str, str]:
    """The value and its 95 % interval as text, in the unit of display."""
    value, low, high = (
        as_shown(quantity.field, number) for number in (quantity.value, quantity.low, quantity.high)
    )
    return value, f"{low} to {high}"
