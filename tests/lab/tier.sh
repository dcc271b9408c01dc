# shellcheck shell=bash
# tier.sh: finds the scenarios of a folder by the line `# tier: quick` or `# tier: long` in their heads (sourced by vm/run and
# bgp/run).

# scenarios_of FOLDER NAME...: prints the names of scenarios, one a line. `quick` stands for all with that tier, `long` for all.
# Fails if a scenario has no tier, or if a name is unknown.
scenarios_of() {
  local folder=$1 file tier name quick='' all=''; shift
  for file in "$folder"/*.sh; do
    tier=$(sed -n 's/^# tier: //p' "$file")
    name=${file##*/}; name=${name%.sh}
    case $tier in
      quick) quick+=" $name" all+=" $name" ;;
      long) all+=" $name" ;;
      *) echo "$file: its head needs one line \`# tier: quick\` or \`# tier: long\`" >&2; return 1 ;;
    esac
  done
  for name; do
    case " quick long$all " in
      *" $name "*) ;;
      *) echo "$folder: there is no scenario $name; there are:$all" >&2; return 1 ;;
    esac
    case $name in
      quick) tr ' ' '\n' <<<"${quick# }" ;;
      long) tr ' ' '\n' <<<"${all# }" ;;
      *) echo "$name" ;;
    esac
  done
}
