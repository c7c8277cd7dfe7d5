"""A mark that everybody sees: a few words in the corner of a picture."""

from PIL import Image, ImageDraw, ImageFont


def mark(image: Image.Image, words: str) -> Image.Image:
    """Return the picture with `words` on a dark ground in its lower right corner."""
    size = max(10, min(image.size) // 28)
    font = ImageFont.load_default(size)
    left, top, right, bottom = ImageDraw.Draw(image).textbbox((0, 0), words, font=font)
    pad = size // 2
    width, height = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
    plate = Image.new("RGBA", (width, height), (0, 0, 0, 150))
    ImageDraw.Draw(plate).text((pad - left, pad - top), words, (255, 255, 255, 230), font)
    marked = image.copy()
    corner = (max(0, image.width - width - pad), max(0, image.height - height - pad))
    if marked.mode == "RGBA":
        marked.alpha_composite(plate, corner, (0, 0, *_within(marked, plate, corner)))
    else:
        marked.paste(plate, corner, plate)
    return marked


def _within(image: Image.Image, plate: Image.Image, corner: tuple[int, int]) -> tuple[int, int]:
    return min(plate.width, image.width - corner[0]), min(plate.height, image.height - corner[1])
