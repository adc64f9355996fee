"""What people see: figures and the page."""
