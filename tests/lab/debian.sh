# shellcheck shell=bash disable=SC2154
# debian.sh: kernels and programs from Debian packages that are unpacked but not installed. It uses an apt state of its own, so
# the host's lists and packages do not change (sourced by vm/image and board/image; the caller sets $root and $out).

say() { echo "${0##*/tests/}: $*" >&2; }

# shellcheck source=SCRIPTDIR/need.sh
. "$(dirname "${BASH_SOURCE[0]}")/need.sh"

# apt_state FOLDER ARCH: makes an apt state with this machine's mirrors and no installed packages.
apt_state() {
  local d=$1 arch=$2 main security codename indexes
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # shellcheck disable=SC2016  # apt's own variables
  indexes=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(SIGNED_BY)' | sort -u)
  main=$(awk -v r="$codename" '$2 == r || $2 == "stable" { print $1; exit }' <<<"$indexes")
  security=$(awk -v r="$codename-security" '$2 == r { print $1; exit }' <<<"$indexes")
  [ -n "$main" ] || { say "no Debian mirror of $codename in this machine's apt sources"; exit 1; }
  mkdir -p "$d"/{lists,cache/archives}/partial "$d/state"
  : > "$d/status"
  local signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
  echo "deb $signed $main $codename main" > "$d/sources"
  [ -z "$security" ] || echo "deb $signed $security $codename-security main" >> "$d/sources"
  cat > "$d/conf" <<END
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$d/state";
Dir::State::lists "$d/lists";
Dir::State::status "$d/status";
Dir::Cache "$d/cache";
Dir::Etc::SourceList "$d/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
END
  export APT_CONFIG=$d/conf
  # The tests continue if the security mirror is being updated, because the main archive has a kernel too.
  apt-get -qq update >&2 || { sed -i /-security/d "$d/sources"; apt-get -qq update >&2; }
}

# unpack FOLDER PACKAGE...: unpacks the packages and their dependencies into $root.
unpack() {
  local d=$1 deb; shift
  say "fetching $*"
  apt-get -qq -y --download-only install "$@" >&2
  apt-get -qq autoclean >&2
  for deb in "$d"/cache/archives/*.deb; do dpkg -x "$deb" "$root"; done
}

# unpack_kernel FOLDER PACKAGE: unpacks the kernel that a metapackage depends on into $kernel_root; sets $version.
unpack_kernel() {
  local d=$1 kernel
  kernel=$(apt-get -s -qq install "$2" | sed -n 's/^Inst \(linux-image-[0-9][^ ]*\) .*/\1/p' | head -1)
  say "fetching $kernel"
  mkdir -p "$d/$kernel"
  ( cd "$d/$kernel" && apt-get -qq download "$kernel" >&2 )
  dpkg -x "$d/$kernel"/*.deb "${kernel_root:?}"
  version=${kernel#linux-image-}
  depmod -b "$kernel_root" "$version"
}

# libraries_of FILE: copies the shared libraries of a program of $root into $out, to the paths that the loader uses.
libraries_of() {
  local lib from
  for lib in $(readelf -ld "$1" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p; s/.*interpreter: \(.*\)\]/\1/p'); do
    case $lib in /*) from=$root$lib to=$out$lib ;; *) from=$(find -L "$root"/lib "$root"/usr/lib -name "$lib" -print -quit) to=$out/lib/$lib ;; esac
    [ -e "$to" ] && continue
    [ -e "$from" ] || { say "$1 needs $lib, which no package brought"; exit 1; }
    mkdir -p "${to%/*}"; cp -L "$from" "$to"; libraries_of "$from"
  done
}

# program NAME: prints the path of a program in $root.
program() {
  local from
  for from in "$root"/{usr/sbin,usr/bin,sbin,bin}/"$1"; do [ -f "$from" ] && [ ! -L "$from" ] && break; done
  echo "$from"
}

# with_dependencies MODULE...: prints the files of the modules and of their dependencies, in loading order.
with_dependencies() {
  local module
  for module; do
    modprobe -d "$kernel_root" -S "$version" --show-depends "$module" || say "this kernel has no $module"
  done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}

# unpack_module FILE TO
unpack_module() {
  case $1 in *.xz) xz -dc "$1" > "$2" ;; *.zst) zstd -dqc "$1" > "$2" ;; *) cp "$1" "$2" ;; esac
}

# modules_into TREE MODULE...: installs modules below lib/modules of a tree, with modules.dep and the other files of a loader.
modules_into() {
  local tree=$1 to=$1/lib/modules/$version ko file; shift
  mkdir -p "$to"
  with_dependencies "$@" | while read -r ko; do
    file=$to/${ko#*/lib/modules/"$version"/}; file=${file%.xz}; file=${file%.zst}
    mkdir -p "${file%/*}"
    unpack_module "$ko" "$file"
  done
  cp "$kernel_root/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$to/"
  depmod -b "$tree" "$version"
  rm -f "$to"/modules.{*.bin,builtin.modinfo,devname,symbols}
}

# The modules that the scenarios need.
# shellcheck disable=SC2034
MODULES="ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sh ip_vs_mh ip_vs_dh ip_vs_sed ip_vs_nq ip_vs_fo
  ip_vs_ovf ip_vs_lblc ip_vs_lblcr dummy bridge br_netfilter veth ipip sctp sctp_diag inet_diag tcp_diag udp_diag
  nf_conntrack nf_conntrack_netlink nf_nat nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_redir
  nft_reject nft_reject_inet nft_fib nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_limit nft_log nft_hash
  nft_numgen nft_objref nft_compat xt_comment xt_mark xt_MASQUERADE xt_physdev xt_conntrack
  iptable_filter ip6table_filter"
