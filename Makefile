# Two commands do all the set-up: `make serve` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
KIND := cpu
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE = posewire:$(VERSION)-$(KIND)

.PHONY: serve test test-training lint format lock monitoring check-deploy pin-images image clean

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
	for extra in cpu gpu dev; do $(BIN)/uv pip compile -q --universal --upgrade --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --extra $$extra pyproject.toml -o requirements/$$extra.lock || exit 1; done
	echo cyclonedx-bom | $(BIN)/uv pip compile -q --universal --upgrade --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 - -o requirements/sbom.lock

monitoring: .venv/.dev ## write the dashboards, the metrics' page and the operator's rules from code
	$(BIN)/python -m monitoring $(ARGS)

check-deploy: .venv/.dev ## everything that docs/deploy.md says was checked; needs root and Debian's buildah debootstrap runc prometheus
	python3 docker/check.py build/image
	$(BIN)/pytest tests/deploy
	mkdir -p build/k8s
	for overlay in k8s/overlays/*; do kubectl kustomize $$overlay > build/k8s/$$(basename $$overlay).yaml || exit 1; done
	$(BIN)/uvx checkov@3.3.30 --quiet --compact --skip-download --framework kubernetes --config-file k8s/checkov.yaml -d build/k8s

pin-images: ## write the digests of other people's images behind their tags: needs internet, and skopeo, crane or docker
	python3 docker/pin_images.py

image: ## build and push the image of KIND as IMAGE, with its SBOM and provenance: needs docker's buildx
	python3 docker/pin_images.py --check
	docker buildx build --push --sbom=true --provenance=mode=max -f docker/Dockerfile.$(KIND) -t $(IMAGE) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg VERSION=$(VERSION) --metadata-file build/$(KIND).json .

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
