"""What the scripts share. Each rule of the data, of the files and of the models is in one place.

The files here are the ground: they know nothing of pictures, and import only each other.

  cli, console, errors     flags, exit statuses, messages, progress bars, errors that stop a stage
  interrupt                Ctrl-C, from the first import to the end
  files, filenames         files that appear whole or not at all, locks, safe names
  parallel, ray_executor   threads, worker processes and Ray clusters that work through many jobs
  download                 one file from the web, with retries and limits
  emotions, metrics        the seven classes and the vote; accuracy, F1, calibration

The rooms stand on it, each on those before it, so that imports never go in a circle:

  imaging/       decode, crop, resize, draw and save pictures
  data/          annotation table, boxes, error logs, split, class folders, decoded images
  inference/     model files, devices, predictions
  training/      batches, augmentation, optimizers, epochs, runs, several processes
  evaluation/    scores on labelled images, calibration, reports
  recognition/   photos and videos: detect, track and classify faces

data and inference do not know each other, nor do training, evaluation and recognition.
docs/architecture.md shows the way of a row, a batch and a face through the rooms.
"""

__version__ = "0.1.0"
