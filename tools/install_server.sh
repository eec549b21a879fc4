#!/bin/sh
# Installs smnet serve without PyTorch into a new environment: the steps of the Dockerfile.
#   sh tools/install_server.sh FOLDER
set -eu
folder=$1
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check \
  -r requirements-server.txt -c constraints.txt
"$folder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --no-deps .
"$folder/bin/smnet" serve --help > /dev/null
