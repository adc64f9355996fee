"""Where the code runs: commands, configs, workdirs, the mesh, compiled programs, metrics, progress."""
