"""Recognition: inputs, face detection and tracking, photos and videos, the answers."""
