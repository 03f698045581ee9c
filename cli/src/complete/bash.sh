# Completion of kontrol for bash.
_kontrol() {
    local words=("${COMP_WORDS[@]:0:COMP_CWORD+1}") lines directive
    words[0]=${words[0]##*/}
    mapfile -t lines < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
    directive=${lines[-1]}
    unset 'lines[-1]'
    COMPREPLY=("${lines[@]}")
    if [[ ${#COMPREPLY[@]} -eq 0 && $directive == :0 ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}
complete -o filenames -F _kontrol kontrol kubectl-kontrol
