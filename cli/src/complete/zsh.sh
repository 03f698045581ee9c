#compdef kontrol kubectl-kontrol
# Completion of kontrol for zsh.
_kontrol() {
    local -a lines
    local directive
    lines=("${(@f)$("${words[1]}" __complete -- "${words[1]:t}" "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    directive=${lines[-1]}
    lines=("${(@)lines[1,-2]}")
    if (( ${#lines} )); then
        compadd -a lines
    elif [[ $directive == :0 ]]; then
        _files
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _kontrol "$@"
else
    compdef _kontrol kontrol kubectl-kontrol
fi
