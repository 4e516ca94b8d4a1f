"""Two pictures of a finished demo: the road of one photo through the stages, and test answers."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from utils.data.annotations import Row, Table
from utils.data.boxes import consensus
from utils.data.image_folder import scan_class_folders
from utils.emotions import majority_vote
from utils.filenames import find_existing
from utils.imaging.drawing import display_name, load_font
from utils.imaging.image_io import open_image
from utils.recognition.recognizer import Recognizer

INK, PALE, RIGHT, WRONG = (40, 40, 50), (225, 228, 235), (70, 150, 90), (200, 70, 70)
ANNOTATOR_COLOURS = ((230, 120, 40), (60, 120, 220), (150, 80, 190))
STAGES = ("downloadImage", "cropImages", "dataPreparation", "train, test", "emotion")


def draw_results(out: Path, path: Path, columns: int = 12) -> None:
    """Faces of the test set, each with its true label and the model's answer."""
    recognize = Recognizer(out / "model.pt", gpu=False, cuda_idx=0)
    faces = [
        (label, file)
        for label, files in scan_class_folders(out / "data" / "test").items()
        for file in files
    ][: 4 * columns]
    answers = recognize([recognize.preprocess.read(file) for _, file in faces])
    side, line = 96, 24
    rows = -(-len(faces) // columns)
    sheet = Image.new("RGB", (columns * (side + 8) + 8, rows * (side + 2 * line + 8) + 8), "white")
    paint = ImageDraw.Draw(sheet)
    for i, ((label, file), answer) in enumerate(zip(faces, answers, strict=True)):
        x, y = 8 + i % columns * (side + 8), 8 + i // columns * (side + 2 * line + 8)
        sheet.paste(open_image(file).convert("RGB").resize((side, side)), (x, y))
        colour = RIGHT if answer["label"] == label else WRONG
        paint.rectangle((x, y, x + side - 1, y + side - 1), outline=colour, width=3)
        paint.text((x + 2, y + side + 2), display_name(label), INK, load_font(15))
        text = f"{display_name(answer['label'])} {max(answer['probs']):.0f} %"
        paint.text((x + 2, y + side + line - 2), text, colour, load_font(15))
    sheet.save(path)


def draw_pipeline(out: Path, path: Path) -> None:
    """One test photo: as downloaded, with its boxes; its face; the sets; the input; the answer."""
    name, label = next(
        (file.name, label)
        for label, files in scan_class_folders(out / "data" / "test").items()
        for file in files
    )
    row = next(row for row in Table(out / "emotions.tsv", ()) if _name(row) == name)
    recognize = Recognizer(out / "model.pt", gpu=False, cuda_idx=0)
    file = find_existing(out / "crop" / label, name)
    face = open_image(file).convert("RGB")
    [answer] = recognize([recognize.preprocess.read(file)])

    sheet = Image.new("RGB", (1240, 330), "white")
    paint = ImageDraw.Draw(sheet)
    lefts = (20, 340, 530, 770, 950)
    for x, stage in zip(lefts, STAGES, strict=True):
        paint.text((x, 16), stage, INK, load_font(19))
    for x in lefts[1:]:
        paint.line((x - 32, 150, x - 12, 150), INK, 3)
        paint.polygon(((x - 14, 143), (x - 14, 157), (x - 4, 150)), INK)
    _paste_photo(
        sheet,
        row,
        open_image(find_existing(out / "original" / row.posed_emotion(), name)),
        (20, 60),
    )
    sheet.paste(face.resize((140, 160)), (340, 80))
    paint.text((340, 250), display_name(label), INK, load_font(18))
    for i, split in enumerate(("train", "validation", "test")):
        count = sum(len(files) for files in scan_class_folders(out / "data" / split).values())
        paint.rectangle((530, 82 + 54 * i, 720, 124 + 54 * i), PALE)
        paint.text((542, 92 + 54 * i), f"{split}  {count}", INK, load_font(17))
    how = recognize.preprocess
    seen = Image.fromarray(how.read(file).transpose(1, 2, 0).squeeze())
    sheet.paste(seen.resize((144, 144), Image.Resampling.NEAREST), (770, 80))
    size = f"{how.image_size} × {how.image_size}, {how.image_channel} channel"
    paint.text((770, 232), size, INK, load_font(15))
    for i, (word, percent) in enumerate(zip(recognize.classes, answer["probs"], strict=True)):
        y = 78 + 27 * i
        paint.text((950, y), display_name(word), INK, load_font(16))
        best = RIGHT if word == answer["label"] else (170, 178, 195)
        paint.rectangle((1060, y + 2, 1062 + percent, y + 19), best)
        paint.text((1170, y), f"{percent:.2f}", INK, load_font(16))
    sheet.save(path)


def _paste_photo(sheet: Image.Image, row: Row, photo: Image.Image, place: tuple[int, int]) -> None:
    paint = ImageDraw.Draw(photo)
    for boxes, colour in zip(row.boxes(), ANNOTATOR_COLOURS, strict=True):
        for box in boxes:
            paint.rectangle(box, outline=colour, width=2)
    paint.rectangle(consensus(row.boxes()), outline="white", width=4)
    sheet.paste(photo.resize((280, 210)), place)
    seen = "  ".join(map(display_name, row.answers()))
    ImageDraw.Draw(sheet).text(
        (place[0], place[1] + 216),
        f"{seen}:  {display_name(majority_vote(row.answers()))}",
        INK,
        load_font(16),
    )


def _name(row: Row) -> str | None:
    try:
        return row.photo_name()
    except ValueError:
        return None
