"""The HTML page: all in one file, everything escaped, and legible in a browser."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import wave
import zlib
from collections import Counter
from html.parser import HTMLParser

import pytest

from uyir.decode.score import Options, Texts, Utterance, score_texts
from uyir.decode.score.page import write_page
from uyir.errors import DataError

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)"
)
PAIRS = {
    "ta": [
        ("அவன் நேற்று வீட்டில் படித்தான்", "அவன் நேத்து வீட்டில் தான் படித்தான்"),
        ("அவள் வந்து விட்டாள் இன்று", "அவள் வந்துவிட்டாள்"),
    ],
    "kn": [
        ("ಅವನು ನಿನ್ನೆ ಮನೆಯಲ್ಲಿ ಓದಿದನು", "ಅವನು ನೆನ್ನೆ ಮನೆಯಲ್ಲಿ ತಾನು ಓದಿದನು"),
        ("ಅವಳು ಮನೆಗೆ ಹೋದಳು ಇಂದು", "ಅವಳು ಮನೆಗೆಹೋದಳು"),
    ],
}


def report(language, pairs=None, name="u", **meta):
    sides = []
    for side in (0, 1):
        utterances = {
            f"{name}{n}": Utterance(
                f"{name}{n}",
                pair[side],
                n,
                {"speaker": f"s{n}", **meta},
                f"{n}.wav" if side == 0 else None,
            )
            for n, pair in enumerate(pairs or PAIRS[language])
        }
        sides.append(Texts(("ref", "hyp")[side], utterances))
    return score_texts(*sides, Options(language, grammar=False))


class Outline(HTMLParser):
    """Scripts, addresses and texts of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses = Counter(), []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.addresses += [
            v for k, v in attributes if k in ("src", "href") and not v.startswith("#")
        ]


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_a_page_is_one_file_with_all_parts(tmp_path):
    path = tmp_path / "page.html"
    write_page(report("ta"), path)
    page = path.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(page)
    assert outline.addresses == []  # nothing to load
    assert outline.tags["svg"] == 1 and outline.tags["rect"] == 2 and outline.tags["script"] == 2
    assert outline.tags["input"] == 1 and outline.tags["table"] >= 5
    data = data_of(page)
    assert [u[0] for u in data["utterances"]] == ["u0", "u1"]
    steps = data["utterances"][0][4]
    words = [data["words"][s] if isinstance(s, int) else s for s in steps]
    assert words[0] == "அவன்" and [data["words"][n] for n in words[1]] == ["நேற்று", "நேத்து"]
    assert words[3][0] == -1


def test_texts_cannot_become_markup(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)> & \" '"
    path = tmp_path / "page.html"
    pairs = [("அவன் " + evil, "@title@ அவள் <b>")]
    # A raw report: the normaliser would take most of it away.
    found = report("ta", pairs, name=f"<i>{evil}", accent=evil)
    found.words[:] = [f"{word}{evil}" for word in found.words]
    write_page(found, path)
    page = path.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(page)
    assert outline.tags["script"] == 2 and not outline.tags["img"] and not outline.tags["i"]
    assert evil in data_of(page)["utterances"][0][0]


def sound(path):
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 16000, 0, "NONE", ""))
        stream.writeframes(bytes(3200))


def test_recordings_at_hand_are_linked_or_held(tmp_path):
    (tmp_path / "a #1").mkdir()
    sound(tmp_path / "a #1" / "0.wav")
    path = tmp_path / "page.html"
    write_page(report("ta"), path, audio_root=tmp_path / "a #1")
    assert [u[2] for u in data_of(path.read_text(encoding="utf-8"))["utterances"]] == [
        "a%20%231/0.wav",
        None,
    ]
    write_page(report("ta"), path, audio_root=tmp_path / "a #1", embed_audio=True)
    first = data_of(path.read_text(encoding="utf-8"))["utterances"][0][2]
    assert first.startswith("data:audio/") and ";base64,UklGR" in first
    with pytest.raises(DataError, match="No such file"):
        write_page(report("ta"), tmp_path / "none" / "page.html")


# --------------------------------------------------------------------------------------------------


def chromium(folder, page, *flags):
    done = subprocess.run(
        [
            CHROMIUM,
            *["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
            *["--disable-background-networking", "--disable-component-update", "--disable-sync"],
            *[
                "--force-color-profile=srgb",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--virtual-time-budget=3000",
            ],
            f"--user-data-dir={folder / 'profile'}",
            *flags,
            page.as_uri(),
        ],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
    return done.stdout.decode("utf-8")


def pixels(path):
    """The colours of a PNG (8 bits, RGB or RGBA) by rows: as the format's specification says."""
    data = path.read_bytes()
    at, packed, width, depth = 8, b"", 0, 0
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, chunk = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, _, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunk)
            assert bits == 8 and colour in (2, 6) and not interlaced
            depth = 3 if colour == 2 else 4
        if kind == b"IDAT":
            packed += chunk
        at += 12 + length
    raw, size = zlib.decompress(packed), width * depth
    before = bytearray(size)
    for begin in range(0, len(raw), size + 1):
        method, line = raw[begin], bytearray(raw[begin + 1 : begin + 1 + size])
        for n in range(size):
            a = line[n - depth] if n >= depth else 0
            b, c = before[n], before[n - depth] if n >= depth else 0
            if method == 1:
                line[n] = (line[n] + a) & 255
            elif method == 2:
                line[n] = (line[n] + b) & 255
            elif method == 3:
                line[n] = (line[n] + (a + b) // 2) & 255
            elif method == 4:
                p = a + b - c
                nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
                line[n] = (line[n] + nearest) & 255
        yield [bytes(line[n : n + 3]) for n in range(0, size, depth)]
        before = line


@needs_chromium
@pytest.mark.parametrize("language", PAIRS)
def test_a_browser_shows_utterances_in_colour(tmp_path, language):
    path = tmp_path / "page.html"
    write_page(report(language), path)
    seen = chromium(tmp_path, path, "--dump-dom")
    for kind in ("sub", "ins", "eq", "hit"):
        assert f'class="pair {kind}"' in seen, kind
    for ref, _ in PAIRS[language]:
        assert all(f"<span>{word}</span>" in seen for word in ref.split())
    assert "1–2 of 2" in seen and seen.count('class="utterance"') == 2
    picture = tmp_path / "page.png"
    chromium(tmp_path, path, "--window-size=1100,2400", f"--screenshot={picture}")
    colours = Counter(colour for row in pixels(picture) for colour in row)
    total = sum(colours.values())
    assert 0.6 < colours[b"\xff\xff\xff"] / total < 0.995
    for name, colour in (("sub", "ffe1b3"), ("ins", "cfe3ff"), ("eq", "d5f0d0"), ("bar", "3b6ea5")):
        assert colours[bytes.fromhex(colour)] > 200, name
    dark = sum(count for colour, count in colours.items() if max(colour) < 96)
    assert dark > 1000  # letters


@needs_chromium
@pytest.mark.parametrize(
    ("language", "letters"), [("ta", "க ங ச கி கீ கை க்ஷ"), ("kn", "ಕ ಖ ಗ ಕಿ ಕೀ ಕೈ ಕ್ಷ")]
)
def test_letters_have_shapes_of_their_own(tmp_path, language, letters):
    """A letter that no font has is drawn as a box, the same for all; so is an unassigned code."""
    path = tmp_path / "page.html"
    write_page(report(language), path)
    page = path.read_text(encoding="utf-8")
    style = re.search(r"<style>.*?</style>", page, re.S)[0]
    unassigned = {"ta": "\u0b80", "kn": "\u0cdf"}[language]
    probe = tmp_path / "probe.html"
    probe.write_text(
        f"<!DOCTYPE html><meta charset=utf-8>{style}<p id=p lang={language}>x</p><pre id=out></pre>"
        "<script>const font = getComputedStyle(document.getElementById('p')).fontFamily;"
        "const shape = (text) => { const c = document.createElement('canvas'); c.width = c.height = 80;"
        "const x = c.getContext('2d'); x.font = '40px ' + font; x.fillText(text, 10, 50);"
        "return Array.from(x.getImageData(0, 0, 80, 80).data).filter((_, n) => n % 4 === 3).join(); };"
        f"const all = {json.dumps([*letters.split(), unassigned])}.map(shape);"
        "document.getElementById('out').textContent = 'distinct ' + new Set(all).size + ' blank ' +"
        "all.filter((s) => !/[1-9]/.test(s)).length;</script>",
        encoding="utf-8",
    )
    said = re.search(r"distinct (\d+) blank (\d+)", chromium(tmp_path, probe, "--dump-dom"))
    assert said, "the probe did not run"
    if int(said[1]) < len(letters.split()):
        pytest.skip(f"no font for {language} is installed (Debian: fonts-noto-core)")
    assert int(said[2]) == 0


@needs_chromium
def test_search_finds_words(tmp_path):
    path = tmp_path / "page.html"
    write_page(report("ta"), path)
    asked = tmp_path / "asked.html"
    shutil.copy(path, asked)

    class Asked:
        def as_uri(self):
            return asked.as_uri() + "#q=%E0%AE%A8%E0%AF%87%E0%AE%A4%E0%AF%8D"  # நேத்

    seen = chromium(tmp_path, Asked(), "--dump-dom")
    assert "1–1 of 1" in seen and "<b>u0</b>" in seen and "<b>u1</b>" not in seen
