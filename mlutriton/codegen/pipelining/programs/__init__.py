"""The programs of a task as one loop: one behind the other, several at a time, or in pieces."""
