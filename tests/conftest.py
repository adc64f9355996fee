"""Settings that must hold before jax is used: CPU, four simulated devices, a kept compilation cache."""

from pathlib import Path

import hypothesis
import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
_CACHE = Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# The first example of a property test may compile a program.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")
