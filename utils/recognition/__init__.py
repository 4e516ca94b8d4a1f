"""Recognition in photos and videos: find the faces, classify them, show and log the answers."""

from utils.recognition.recognizer import Recognizer

__all__ = ["Recognizer"]
