#!/bin/sh
# Builds /opt/posewire from a lock file, without the files that the service does not need. Runs in the images' build stage.
set -eu
lock=$1

python3 -m venv /opt/tools
python3 -m venv --without-pip /opt/posewire
pip="/opt/tools/bin/pip --disable-pip-version-check --no-cache-dir -q"
$pip --python /opt/posewire/bin/python install --no-compile --require-hashes -r "requirements/$lock.lock"
# What the build needs, but for ziglang: the image has a compiler.
awk '/^[^ ]/ { ours = !/^ziglang==/ } ours' requirements/build.lock > /tmp/build.lock
$pip install --require-hashes -r /tmp/build.lock
$pip wheel --no-build-isolation --no-deps -w /tmp/wheel .
$pip --python /opt/posewire/bin/python install --no-compile --no-deps --no-index /tmp/wheel/*.whl
# What it is made of, as a CycloneDX document.
$pip install --require-hashes -r requirements/sbom.lock
mkdir -p /opt/sbom
/opt/tools/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/sbom/posewire.cdx.json /opt/posewire/bin/python

cd /opt/posewire/lib/python3*/site-packages
# Remove ONNX Runtime's tools and its library for C, which its Python module does not load; NumPy's Fortran bridge; the sources
# of compiled modules.
rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets onnxruntime/capi/libonnxruntime.so.* numpy/f2py
find . -depth -type d -name tests -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.a' \) -delete
strip --strip-unneeded uvloop/*.so # 12 MB of symbols
# A read-only root cannot store bytecode, so it is compiled here. It is not checked against the sources, which cannot change.
/opt/posewire/bin/python -m compileall -q --invalidation-mode unchecked-hash .
