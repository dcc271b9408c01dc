# shellcheck shell=bash
# need.sh: installs the packages that the tests need (sourced; Debian 12, root).

# need COMMAND=PACKAGE...: installs each package whose command (or file, if it starts with a slash) is missing.
need() {
  local pair missing=()
  for pair; do
    case $pair in
      /*) [ -e "${pair%%=*}" ] ;;
      *) PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" > /dev/null ;;
    esac || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "installing ${missing[*]}" >&2
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -y --no-install-recommends install "${missing[@]}"; } >&2 </dev/null
}
