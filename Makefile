# Two commands do all the set-up: `make serve` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
KIND := cpu
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE = posewire:$(VERSION)-$(KIND)
COMPILE := $(BIN)/uv pip compile -q --universal --upgrade --generate-hashes --no-annotate --no-header --python-version 3.11
TARGETS := linux-x86_64 linux-aarch64 macosx-arm64 macosx-x86_64 win-amd64
PYTHONS := python3.11 python3.12 python3.13

.PHONY: serve test test-training lint format lock npm-messages npm-package monitoring docs check-deploy pin-images image clean
.PHONY: wheels check-wheels release-check check-tag sbom publish

serve: .venv/.serve ## make the environment, start the service on the models that ship
	$(BIN)/posewire serve $(ARGS)

test: .venv/.dev ## make the environment, run the tests
	$(BIN)/pytest $(ARGS)

test-training: .venv/.train ## the tests of the training side too, which need torch
	$(BIN)/pytest tests/training $(ARGS)

lint: .venv/.dev ## style and types, the types of the package on other systems too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for platform in win32 darwin; do $(BIN)/mypy --platform $$platform --cache-dir .mypy_cache/$$platform service/posewire || exit 1; done

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/.dev ## bring the lock files up to date
	$(COMPILE) --extra cpu pyproject.toml -o requirements/cpu.lock
	$(COMPILE) --extra mqtt --extra video --extra webrtc pyproject.toml -o requirements/cameras.lock
	$(COMPILE) --extra gpu --no-emit-package onnxruntime pyproject.toml -o requirements/gpu.lock # it would overwrite onnxruntime-gpu
	$(COMPILE) --extra dev pyproject.toml -o requirements/dev.lock
	printf 'hatch-fancy-pypi-readme\nhatchling\nziglang\n' | $(COMPILE) - -o requirements/build.lock
	echo cyclonedx-bom | $(COMPILE) - -o requirements/sbom.lock

npm/node_modules: npm/package-lock.json
	cd npm && npm ci
	touch $@

npm-messages: .venv/.dev npm/node_modules ## write the types of the npm package from the schemas of the service; needs node
	$(BIN)/python npm/scripts/schemas.py | node npm/scripts/messages.mjs > npm/src/messages.new
	mv npm/src/messages.new npm/src/messages.ts

npm-package: npm/node_modules ## build the npm package: npm/posewire-VERSION.tgz
	cd npm && npm pack

monitoring: .venv/.dev ## write the dashboards, the metrics' page and the operator's rules from code
	$(BIN)/python -m monitoring $(ARGS)

docs: .venv/.dev ## write the pages that are made from code, and build the site into build/site; a warning is an error
	$(BIN)/python -m website
	$(BIN)/python -m mkdocs build --strict $(ARGS)

check-deploy: .venv/.dev ## everything that docs/deploy.md says was checked; needs root and Debian's buildah debootstrap runc prometheus
	python3 docker/check.py build/image
	$(BIN)/pytest tests/deploy
	mkdir -p build/k8s
	for overlay in k8s/overlays/* k8s/kserve/custom k8s/kserve/runtime; do kubectl kustomize $$overlay > build/k8s/$$(basename $$overlay).yaml || exit 1; done
	$(BIN)/uvx checkov@3.3.30 --quiet --compact --skip-download --framework kubernetes --config-file k8s/checkov.yaml -d build/k8s

pin-images: ## write the digests of other people's images behind their tags: needs internet, and skopeo, crane or docker
	python3 docker/pin_images.py

image: ## build and push the image of KIND as IMAGE, by LOCK if it is given, with its SBOM and provenance: needs docker's buildx
	python3 docker/pin_images.py --check
	docker buildx build --push --sbom=true --provenance=mode=max -f docker/Dockerfile.$(KIND) -t $(IMAGE) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg VERSION=$(VERSION) --metadata-file build/$(KIND).json $(if $(LOCK),--build-arg LOCK=$(LOCK)) .

wheels: .venv/.dev ## dist/: the source distribution, and from it the wheels of all platforms
	rm -rf dist
	$(BIN)/uv build -q --sdist --build-constraints requirements/build.lock --require-hashes -o dist
	for target in $(TARGETS); do KERNELS_TARGET=$$target \
	  $(BIN)/uv build -q --wheel --build-constraints requirements/build.lock --require-hashes -o dist dist/posewire-$(VERSION).tar.gz || exit 1; done

check-wheels: .venv/.dev ## what is in dist/: metadata, contents, and that no wheel for Linux needs a library of the machine
	$(BIN)/uvx twine@7.0.0 check --strict dist/*.tar.gz dist/*.whl
	$(BIN)/uvx check-wheel-contents@0.6.3 --ignore W002 dist/*.whl # the licence and the notice are there twice: for tools, and beside the weights
	for wheel in dist/*manylinux*.whl; do $(BIN)/uvx auditwheel@6.8.2 show $$wheel | tee /dev/stderr | grep -q 'requires no external shared libraries' || exit 1; done

release-check: wheels check-wheels ## all of it, and the commands of a new user in empty environments of PYTHONS; takes a quarter of an hour
	python3 -m release.check dist $(PYTHONS)

check-tag: ## is TAG that of the version, and does the changelog tell of it?
	test "$(TAG)" = "v$(VERSION)"
	grep -q '^## \[$(VERSION)\] - ' CHANGELOG.md

sbom: .venv/.dev ## build/posewire.cdx.json: the packages of an installation of the wheel in dist/, by the lock
	mkdir -p build
	$(BIN)/uv venv -q --clear --python $(BIN)/python build/sbom
	$(BIN)/uv pip install -q --python build/sbom/bin/python --require-hashes -r requirements/cpu.lock
	$(BIN)/uv pip install -q --python build/sbom/bin/python --no-deps --no-index --find-links dist posewire==$(VERSION)
	$(BIN)/uv venv -q --clear --python $(BIN)/python build/sbom-tool
	$(BIN)/uv pip install -q --python build/sbom-tool/bin/python --require-hashes -r requirements/sbom.lock
	build/sbom-tool/bin/cyclonedx-py environment --output-reproducible --of JSON -o build/posewire.cdx.json build/sbom/bin/python

publish: .venv/.dev ## upload dist/ to PyPI: in the workflow of releases, which PyPI trusts
	$(BIN)/uv publish --trusted-publishing always dist/*.tar.gz dist/*.whl

clean:
	rm -rf .venv

.venv/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Posewire needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.serve: .venv/.made requirements/cpu.lock pyproject.toml
	$(BIN)/pip install --disable-pip-version-check -q --require-hashes -r requirements/cpu.lock
	$(BIN)/pip install --disable-pip-version-check -q --no-deps -e .
	touch $@

.venv/.dev: .venv/.made requirements/dev.lock pyproject.toml
	$(BIN)/pip install --disable-pip-version-check -q --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --disable-pip-version-check -q --no-deps -e .
	touch $@

# Not locked by hashes: which builds of torch there are differs from machine to machine.
.venv/.train: .venv/.dev pyproject.toml
	$(BIN)/pip install --disable-pip-version-check -q -e '.[train]'
	touch $@
