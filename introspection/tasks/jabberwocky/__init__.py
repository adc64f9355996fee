"""An invented language whose rule is taught only by behaviour."""
