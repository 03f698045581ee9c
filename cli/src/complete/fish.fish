# Completion of kontrol for fish.
function __kontrol_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    set -l lines ($program __complete -- (basename $program) $words (commandline -ct) 2>/dev/null)
    set -l directive $lines[-1]
    set -e lines[-1]
    if test (count $lines) -eq 0 -a "$directive" = ":0"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $lines
    end
end
complete -c kontrol -f -a '(__kontrol_complete)'
complete -c kubectl-kontrol -f -a '(__kontrol_complete)'
