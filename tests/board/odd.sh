# shellcheck shell=sh
# odd.sh: what boards lack (sourced by scenario.sh).
part_checks() { :; }
part_odd() { :; }
part_small() { :; }
