"""Pages: results as one HTML file that opens by double click and loads nothing from elsewhere."""
