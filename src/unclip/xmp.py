"""XMP packets that say a picture was made by a model (IPTC Photo Metadata 2025.1, digital source type).

The mark stands in the file as every picture program reads it; it is not signed, so anybody can take it out.
"""

from __future__ import annotations

import re
from enum import StrEnum

from unclip import __version__

# https://cv.iptc.org/newscodes/digitalsourcetype/
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool="unclip {__version__}" Iptc4xmpExt:DigitalSourceType="{VOCABULARY}{{}}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
PNG_KEY = "XML:com.adobe.xmp"  # the keyword of the PNG text chunk that holds XMP (XMP specification, part 3)
# As an attribute or as an element: writers differ.
FOUND = re.compile(re.escape(VOCABULARY.removeprefix("http://")) + r"(\w+)")
# A GIF's application extension (XMP specification, part 3, section 1.1.2): the packet stands in it as it is,
# and behind it what leads a reader who takes its letters for the lengths of blocks to the end of them.
GIF_BLOCK = b"\x21\xff\x0bXMP DataXMP"
GIF_END = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\x00"
GIF_TRAILER = b";"
MOST_BYTES = 2**20  # of a packet that is looked through


class SourceType(StrEnum):
    """The IPTC digital source type of a picture that was drawn or changed."""

    GENERATED = "trainedAlgorithmicMedia"  # all of it is drawn
    COMPOSITE = "compositeWithTrainedAlgorithmicMedia"  # parts of another picture stand in it
    ALTERED = "algorithmicallyEnhanced"  # another picture in which something was filled, by no model

    @property
    def uri(self) -> str:
        """The address in IPTC's vocabulary, which other programs compare with."""
        return VOCABULARY + self.value

    @property
    def packet(self) -> bytes:
        """The XMP packet that says so, in UTF-8."""
        return PACKET.format(self.value).encode()


def with_packet(gif: bytes, packet: bytes) -> bytes:
    """A GIF with an XMP packet, which Pillow does not write."""
    return gif.removesuffix(GIF_TRAILER) + GIF_BLOCK + packet + GIF_END + GIF_TRAILER


def gif_packet(gif: bytes) -> bytes:
    """The XMP packet of a GIF, with what stands behind it; empty where there is none."""
    return gif.partition(GIF_BLOCK)[2][:MOST_BYTES]


def source_type(packet: bytes | str) -> str | None:
    """The digital source type that a packet names, a `SourceType` or another of the vocabulary, or None."""
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet
    found = FOUND.search(text[:MOST_BYTES])
    return found[1] if found else None
