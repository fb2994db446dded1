"""What the services say, one module each; shapes, statuses and addresses are those of their documentation."""
