"""What keeps an eye on a running collector: beats for others to read, metrics, and signs of life to the outside."""
