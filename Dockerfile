# pudle with every package at its pinned version, from Debian's and PyPI's packages:
#
#     docker build --tag pudle .
#     docker run --rm --volume "$PWD/results:/pudle/results" pudle snakemake --configfile config/smoke.yaml
#
FROM debian:trixie-slim

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc git libc6-dev python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /pudle
COPY requirements.txt ./
RUN python3 -m venv .venv \
 && .venv/bin/pip install --no-cache-dir --requirement requirements.txt

COPY . .
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable .

ENV PATH="/pudle/.venv/bin:$PATH"
CMD ["snakemake"]
