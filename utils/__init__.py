"""What the scripts share: each rule of the data, of the files and of the models, in one place."""

__version__ = "0.1.0"
