"""A simulator of Alibaba DashScope's image editing, to run the project without an account.

It is a witness, not a convenience: it enforces the provider's documented contract from rule tables
of its own (`rules.py`), imports nothing else of `retouch`, and is judged by the official
`dashscope` package, which works against it unchanged. What it draws is real and visibly different
for each function, and stamped as simulated.

Run it with `python -m retouch.simulator`, in a test with `testing.running_simulator`. Words in a
prompt that make it refuse or fail are in `moderation.py`, faults in `faults.py`; `README.md` in
this folder tells both, and where the documents are silent, what was chosen.
"""

from retouch.simulator.app import create_app
from retouch.simulator.config import SimulatorConfig

__all__ = ["SimulatorConfig", "create_app"]
