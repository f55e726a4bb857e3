# What .ci/run and .ci/nightly share. Sourced from the root of a checkout.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

readme_command() { grep -oE "pip install -c constraints.txt -e $1 && .*" README.md | head -n 1; }
fresh() { python3 -m venv "$work/$1" && . "$work/$1/bin/activate"; }

lint_docs_types() {
  echo "== lint, format, docs, types"
  pip install -q -c constraints.txt -e '.[test,dev,docs]'
  ruff check
  ruff format --check
  python docs/make_losses.py --check
  python docs/make_dpo_variants.py --check
  python docs/make_methods.py --check
  # Repeated once if it fails: this pre-release was seen to report errors that the next run did not.
  ty check || ty check
  echo "== the site: docs and the API reference"
  NO_MKDOCS_2_WARNING=1 mkdocs build --strict -q
}

parity() {
  echo "== parity: TRL, rlax, transformers and, in an environment of its own, Tunix"
  fresh tunix
  pip install -q -c benchmarks/parity/tunix-constraints.txt google-tunix==0.1.7
  deactivate
  fresh parity
  pip install -q -c constraints.txt -e '.[test,parity]'
  RLHF_JAX_TUNIX_PYTHON="$work/tunix/bin/python" \
    python -m pytest -m '' -n 0 tests/benchmarks/test_parity.py tests/hf \
    tests/pages/test_coming_from.py tests/cli/test_stories.py
  deactivate
}

shop_quick() {
  echo "== README command 1, at its quick size"
  fresh user
  # Exit code 3 says that a claim failed, as most do at this size; everything else is an error.
  eval "$(readme_command '\.') --quick --out $work/shop" || [ $? -eq 3 ]
  deactivate
}
