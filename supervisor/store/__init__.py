"""What a node must not lose: its pods, what is known of them, and what was told about them."""
