# shellcheck shell=bash
# need.sh: what the tests need of this machine (sourced; Debian 12, root).

# need COMMAND=PACKAGE...: installs each package whose command (or file, where it begins with a slash) is not there.
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
