"""Device protocols as codecs without I/O: bytes in, frames out."""
