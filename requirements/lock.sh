#!/bin/sh
# Makes the four lock files anew, with hashes and without download addresses.
#   functions.txt  what the Lambda layer carries
#   local.txt      what `make demo` installs: command line, embedded engine, simulator
#   dev.txt        what `make test` installs: all of it and the tools
#   build.txt      what building the package itself needs, out of dev.txt
set -eu
cd "$(dirname "$0")/.."
compile() {
  out=$1; shift
  "${PYTHON:-python3}" -m piptools compile -q --generate-hashes --strip-extras --allow-unsafe \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
    --output-file="requirements/$out.txt" "$@" pyproject.toml
}
compile dev --extra=cli --extra=local --extra=dev
compile local --extra=cli --extra=local -c requirements/dev.txt
compile functions -c requirements/dev.txt
sed -n '/^setuptools==/,/^[a-z]/{/^[a-rt-z]/d;p;}' requirements/dev.txt > requirements/build.txt
