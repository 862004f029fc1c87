"""What methods are fed: synthetic sparse data and images."""
