"""What jobs cost: time, memory, disk."""
