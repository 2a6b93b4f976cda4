"""Images that a registry makes of one that an engine saved."""

import io
import json
import tarfile

from bench.registry import Image, digest_of, layer

BELOW = layer(10)


def saved() -> bytes:
    """As `docker save` writes it."""
    config = {"config": {"Cmd": ["httpd"]}, "rootfs": {"diff_ids": [digest_of(BELOW)]}}
    manifest = [{"Config": "c.json", "Layers": ["l/layer.tar"]}]
    files = {
        "c.json": json.dumps(config | {"history": [{}]}).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "l/layer.tar": BELOW,
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return packed.getvalue()


def test_an_image_has_its_layers_on_top_of_the_saved_ones() -> None:
    own = [layer(5), layer(5)]
    image = Image.on(saved(), own)
    manifest = json.loads(image.manifest)
    digests = [digest_of(blob) for blob in (BELOW, *own)]
    assert [reference["digest"] for reference in manifest["layers"]] == digests
    assert image.own == tuple(digests[1:])
    config = json.loads(image.blobs[manifest["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == digests
    assert config["config"] == {"Cmd": ["httpd"]}
    assert "history" not in config


def test_every_blob_of_the_manifest_is_served_with_its_size() -> None:
    image = Image.on(saved(), [layer(5)])
    manifest = json.loads(image.manifest)
    for reference in (manifest["config"], *manifest["layers"]):
        assert len(image.blobs[reference["digest"]]) == reference["size"]


def test_no_two_layers_are_the_same() -> None:
    assert layer(5) != layer(5)
