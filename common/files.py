"""Write files so that nobody ever finds a part of one."""

import os
import tempfile

PARTIAL = ".partial"  # ends the names of files that are being written


def write_at_once(path, content):
    """Write a file, text or bytes, so that others find the old one or the new one, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False) as file:
        try:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
