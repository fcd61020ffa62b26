"""`python -m benchmarks [NAME ...]`: run benchmarks, each in a process of its own, and write the table."""

import subprocess
import sys

from benchmarks import table

NAMES = ("throughput", "round", "protocol", "scaling", "start", "feed")


def main() -> int:
    """Run what is named, or everything; 1 if one failed."""
    names = sys.argv[1:] or NAMES
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; allowed are {', '.join(NAMES)}.", file=sys.stderr)
        return 1
    failed = [name for name in names if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode]
    table.write()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
