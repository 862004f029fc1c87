"""Data for methods and denoisers: synthetic sparse data, images and digits."""
