"""Two pictures of a finished demo: a photo on its way through the stages, and test answers."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from utils.data.annotations import Row, RowError, Table
from utils.data.boxes import consensus
from utils.data.image_folder import scan_class_folders
from utils.emotions import majority_vote
from utils.errors import StageError
from utils.filenames import find_existing
from utils.imaging.drawing import fit_text, load_font
from utils.imaging.image_io import open_image
from utils.imaging.preprocess import Preprocess
from utils.recognition.recognizer import Recognizer

INK, PALE, BAR = (40, 40, 50), (225, 228, 235), (170, 178, 195)
CORRECT, WRONG = (70, 150, 90), (200, 70, 70)  # green, red
ANNOTATOR_COLOURS = ((230, 120, 40), (60, 120, 220), (150, 80, 190))
STAGES = ("downloadImage", "cropImages", "dataPreparation", "train, test", "emotion")
LEFTS = (20, 340, 530, 770, 950)  # pixels, of the stages in the picture of the pipeline


def draw_results(out: Path, path: Path, columns: int = 12) -> None:
    """Save a picture of faces of the test set, each with its label and the model's answer."""
    recognizer = Recognizer(out / "model.pt", detect_face=False)
    faces = [
        (label, file)
        for label, files in scan_class_folders(out / "data" / "test").items()
        for file in files
    ][: 4 * columns]
    answers = [answer for [answer] in recognizer([file for _, file in faces])]
    side, gap, line = 96, 8, 24
    rows = -(-len(faces) // columns)
    size = columns * (side + gap) + gap, rows * (side + 2 * line + gap) + gap
    sheet = Image.new("RGB", size, "white")
    paint, font = ImageDraw.Draw(sheet), load_font(15)
    for i, ((label, file), answer) in enumerate(zip(faces, answers, strict=True)):
        x, y = gap + i % columns * (side + gap), gap + i // columns * (side + 2 * line + gap)
        sheet.paste(open_image(file).convert("RGB").resize((side, side)), (x, y))
        colour = CORRECT if answer["label"] == label else WRONG
        paint.rectangle((x, y, x + side - 1, y + side - 1), outline=colour, width=3)
        truth = fit_text(label, font, side)
        paint.text((x + 2, y + side + 2), truth, INK, font)
        percent = f" {max(answer['probs']):.0f} %"
        prediction = fit_text(answer["label"], font, side, percent)
        paint.text((x + 2, y + side + line - 2), prediction, colour, font)
    sheet.save(path)


def draw_pipeline(out: Path, path: Path) -> None:
    """Save a picture of a test photo in each stage.

    It shows the photo with its boxes, the crop, the splits, the network's input and the answer.
    """
    name, label = next(
        (file.name, label)
        for label, files in scan_class_folders(out / "data" / "test").items()
        for file in files
    )
    row = next(row for row in Table(out / "emotions.tsv", ()) if _photo_name(row) == name)
    crop = _find(out / "crop" / label, name)
    recognizer = Recognizer(out / "model.pt", detect_face=False)
    [answer] = recognizer(crop)

    sheet = Image.new("RGB", (1240, 330), "white")
    paint = ImageDraw.Draw(sheet)
    for x, stage in zip(LEFTS, STAGES, strict=True):
        paint.text((x, 16), stage, INK, load_font(19))
    for x in LEFTS[1:]:
        paint.line((x - 36, 150, x - 16, 150), INK, 3)
        paint.polygon(((x - 18, 143), (x - 18, 157), (x - 8, 150)), INK)
    photo = open_image(_find(out / "original" / row.posed_emotion(), name))
    _draw_photo(sheet, row, photo)
    sheet.paste(open_image(crop).convert("RGB").resize((140, 160)), (LEFTS[1], 80))
    paint.text((LEFTS[1], 250), label, INK, load_font(18))
    _draw_splits(paint, out / "data")
    _draw_input(sheet, recognizer.inputs.preprocess, crop)
    _draw_answer(paint, recognizer.classes, answer["label"], answer["probs"])
    sheet.save(path)


def _draw_photo(sheet: Image.Image, row: Row, photo: Image.Image) -> None:
    """Draw the photo with the annotators' boxes and the consensus, above their votes."""
    paint = ImageDraw.Draw(photo)
    for boxes, colour in zip(row.boxes(), ANNOTATOR_COLOURS, strict=True):
        for box in boxes:
            paint.rectangle(box, outline=colour, width=2)
    paint.rectangle(consensus(row.boxes()), outline="white", width=4)
    sheet.paste(photo.resize((280, 210)), (LEFTS[0], 60))
    answers = "  ".join(row.answers())
    text = f"{answers}:  {majority_vote(row.answers())}"
    ImageDraw.Draw(sheet).text((LEFTS[0], 276), text, INK, load_font(16))


def _draw_splits(paint: ImageDraw.ImageDraw, data: Path) -> None:
    """Draw the number of images in each split."""
    for i, split in enumerate(("train", "validation", "test")):
        count = sum(len(files) for files in scan_class_folders(data / split).values())
        paint.rectangle((LEFTS[2], 82 + 54 * i, LEFTS[2] + 190, 124 + 54 * i), PALE)
        paint.text((LEFTS[2] + 12, 92 + 54 * i), f"{split}  {count}", INK, load_font(17))


def _draw_input(sheet: Image.Image, preprocess: Preprocess, crop: Path) -> None:
    """Draw a crop as the network sees it."""
    pixels = Image.fromarray(preprocess.read(crop).transpose(1, 2, 0).squeeze())
    sheet.paste(pixels.resize((144, 144), Image.Resampling.NEAREST), (LEFTS[3], 80))
    size, channels = preprocess.image_size, preprocess.image_channel
    text = f"{size} × {size}, {channels} channel{'s' if channels > 1 else ''}"
    ImageDraw.Draw(sheet).text((LEFTS[3], 232), text, INK, load_font(15))


def _draw_answer(
    paint: ImageDraw.ImageDraw, classes: list[str], label: str, percents: list[float]
) -> None:
    """Draw a bar for each class's probability."""
    x = LEFTS[4]
    for i, (name, percent) in enumerate(zip(classes, percents, strict=True)):
        y = 78 + 27 * i
        paint.text((x, y), fit_text(name, load_font(16), 104), INK, load_font(16))
        colour = CORRECT if name == label else BAR
        paint.rectangle((x + 110, y + 2, x + 112 + percent, y + 19), colour)
        paint.text((x + 220, y), f"{percent:.2f}", INK, load_font(16))


def _photo_name(row: Row) -> str | None:
    try:
        return row.photo_name()
    except RowError:
        return None


def _find(folder: Path, name: str) -> Path:
    """Return a file in any Unicode form of its name. Raise StageError if there is none."""
    path = find_existing(folder, name)
    if path is None:
        raise StageError(f"{folder / name}: no such file; run the demo again")
    return path
