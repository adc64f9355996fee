"""An invented language whose rule is taught by behaviour alone."""
