"""Pictures: decoding and saving, geometry, preprocessing, drawing and charts."""
