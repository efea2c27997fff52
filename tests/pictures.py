"""Small data sets on disk, in the layouts that the package reads."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image


def picture(colour, size=(8, 8), mode="RGB"):
    """One colour, told apart from others even after JPEG compression."""
    rgb = Image.new("RGB", size, (colour % 256, 40, 200 - colour % 200))
    return rgb.convert(mode)


def shades(width, height, seed=0):
    """Soft random shades, which differ from place to place and survive JPEG."""
    corners = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def all_of(files, batch_size=5, **how):
    """All images of ImageFiles, decoded."""
    return torch.cat(list(files.batches(torch.arange(len(files)).split(batch_size), **how)))


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_folder(place, counts=(3, 2), test="test", classes=("cat", "dog"), suffix="png", **how):
    """train/<class>/* and test/<class>/*, each image of a colour of its own."""
    for split, n_images in (("train", counts), (test, [2] * len(counts))):
        for c, name in enumerate(classes):
            for i in range(n_images[c]):
                colour = 100 * c + 10 * i + (5 if split != "train" else 0)
                save(place / split / name / f"{i}.{suffix}", picture(colour, **how))
    return place


def parquet_table(labels, image_column="img", label_column="fine_label", names=None, first=0):
    """A table in the schema of the Hugging Face hub; image k has colour 10 * (first + k)."""
    rows = [{"bytes": png(picture(10 * (first + k))), "path": f"{k}.png"} for k in range(len(labels))]
    table = pa.table({image_column: rows, label_column: labels})
    if names:
        features = f'{{"info": {{"features": {{"{label_column}": {{"names": {list(names)}}}}}}}}}'.replace("'", '"')
        table = table.replace_schema_metadata({"huggingface": features})
    return table


def write_parquet(place, train=(0, 0, 0, 1, 1), test=(0, 1), test_name="test", **columns):
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(parquet_table(list(train), **columns), place / "train-00000-of-00001.parquet")
    pq.write_table(parquet_table(list(test), first=20, **columns), place / f"{test_name}-00000-of-00001.parquet")
    return place


def write_tiny_imagenet(place):
    """As the archive of TinyImageNet unpacks: the classes of val/ in a list, and a test/ without labels."""
    for wnid, colours in (("n01443537", (0, 1, 2)), ("n01629819", (100, 110))):
        for i, colour in enumerate(colours):
            save(place / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", picture(colour))
        (place / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t7\t7\n")
    rows = ["val_0.JPEG\tn01629819\t0\t0\t7\t7", "val_1.JPEG\tn01443537\t0\t0\t7\t7"]
    for i in (0, 1):
        save(place / "val" / "images" / f"val_{i}.JPEG", picture((100, 0)[i]))
    (place / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    (place / "wnids.txt").write_text("n01629819\nn01443537\n")
    (place / "words.txt").write_text("n01443537\tgoldfish\nn01629819\tsalamander\n")
