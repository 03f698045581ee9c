%% Plays cases under the real supervisor and prints what it did.
%%
%% Reads one case a line from standard input (src/erlang.rs says in which form), writes for each its name, one line a
%% step in the form of a trace, and an empty line.
%%
%% Order. Whatever is seen is kept under a stamp {erlang:monotonic_time(nanosecond), erlang:unique_integer([monotonic])},
%% which agrees with cause and effect in all processes: starts are stamped in the start function, ends and a supervisor's
%% own decisions by the runtime's tracing.
%%
%% Rest. Nothing sleeps. A supervisor is suspended while its workers end, until each exit is in its mailbox; after that
%% one synchronous call says whether it still runs and whether a restart is under way, and so on upwards from each
%% supervisor that ended.
-module(player).
-behaviour(supervisor).

-export([main/0]).
-export([start_node/1, init/1]).

-define(LOG, player_log).
-define(REFUSALS, player_refusals).
-define(GRACE, 60000).

main() ->
    process_flag(trap_exit, true),
    logger:set_primary_config(level, none),
    ets:new(?LOG, [named_table, public, ordered_set]),
    ets:new(?REFUSALS, [named_table, public]),
    Collector = spawn_link(fun collect/0),
    {module, supervisor} = code:ensure_loaded(supervisor),
    %% The two decisions of a supervisor to end: too many restarts, and the end of its significant children.
    [1 = erlang:trace_pattern({supervisor, F, 2}, [{'_', [], [{return_trace}]}], [local])
     || F <- [restart, do_auto_shutdown]],
    erlang:trace(new_processes, true, [procs, call, strict_monotonic_timestamp, {tracer, Collector}]),
    ok = io:setopts([binary, {encoding, latin1}]),
    read(Collector),
    halt(0).

read(Collector) ->
    case io:get_line("") of
        eof -> ok;
        Line ->
            {ok, Tokens, _} = erl_scan:string(binary_to_list(Line)),
            {ok, {Name, Tree, Refusals, Events}} = erl_parse:parse_term(Tokens),
            Steps = play(Collector, Tree, Refusals, Events),
            io:put_chars([integer_to_list(Name), $\n, [[Step, $\n] || Step <- Steps], $\n]),
            read(Collector)
    end.

%%% One case

play(Collector, Tree, Refusals, Events) ->
    ets:delete_all_objects(?REFUSALS),
    ets:insert(?REFUSALS, Refusals),
    Root = case start_node(Tree) of
               {ok, Pid} -> Pid;
               {error, _} -> none
           end,
    {Step, Nodes} = step(Collector, Tree, Root, [], #{}),
    Steps = play(Collector, Tree, Events, Root, Nodes, [Step]),
    stop(Collector, Root),
    Steps.

play(_Collector, _Tree, Events, Root, _Nodes, Steps) when Root =:= none; Events =:= [] ->
    lists:reverse(Steps);
play(Collector, Tree, [Event | Events], Root, Nodes, Steps) ->
    Ended = event(Event, Nodes),
    Root1 = case is_process_alive(Root) of
                true -> Root;
                false -> none
            end,
    {Step, Nodes1} = step(Collector, Tree, Root1, Ended, Nodes),
    play(Collector, Tree, Events, Root1, Nodes1, [Step | Steps]).

stop(Collector, Root) ->
    case Root of
        none -> ok;
        _ ->
            Monitor = monitor(process, Root),
            exit(Root, shutdown),
            receive {'DOWN', Monitor, _, _, _} -> ok end
    end,
    _ = log(Collector),
    flush().

flush() ->
    receive {'EXIT', _, _} -> flush() after 0 -> ok end.

%%% Stimuli. Each returns the workers that it ended, when the tree is at rest again.

event({refuse, Worker, Starts}, _Nodes) ->
    ets:insert(?REFUSALS, {Worker, Starts}),
    [];
event({pass, _Seconds}, _Nodes) ->
    [];
event({ends, Id, Ends}, Nodes) ->
    case Nodes of
        #{Id := {Pid, _}} when is_pid(Pid) ->
            ok = sys:suspend(Pid),
            Ended = lists:foldl(fun(End, Before) -> finish(Pid, End, children(Id, Nodes), Before) end, [], Ends),
            ok = sys:resume(Pid),
            settle(Id, Nodes, none),
            Ended;
        _ -> []
    end;
event({Request, Id, Child}, Nodes) ->
    case Nodes of
        #{Id := {Pid, _}} when is_pid(Pid) ->
            _ = supervisor:Request(Pid, Child),
            [];
        _ -> []
    end.

children(Id, Nodes) ->
    maps:filter(fun(_, {_, Above}) -> Above =:= Id end, Nodes).

finish(Supervisor, {Id, Reason}, Children, Before) ->
    case Children of
        #{Id := {Pid, _}} when is_pid(Pid) ->
            case lists:member(Pid, Before) of
                true -> Before;
                false ->
                    case Reason of
                        killed -> exit(Pid, kill);
                        _ -> Pid ! {finish, Reason}
                    end,
                    await_exit(Supervisor, Pid),
                    [Pid | Before]
            end;
        _ -> Before
    end.

%% Until the exit is in the mailbox of the suspended supervisor.
await_exit(Supervisor, Pid) ->
    {messages, Messages} = process_info(Supervisor, messages),
    case [found || {'EXIT', From, _} <- Messages, From =:= Pid] of
        [] -> erlang:yield(), await_exit(Supervisor, Pid);
        _ -> ok
    end.

%% Until the supervisor has dealt with the end of this process and with all that follows.
settle(root, _Nodes, Gone) ->
    receive {'EXIT', Gone, _} -> ok end;
settle(Id, Nodes, Gone) ->
    #{Id := {Pid, Above}} = Nodes,
    case catch supervisor:which_children(Pid) of
        Children when is_list(Children) ->
            case [busy || {_, Child, _, _} <- Children, Child =:= restarting orelse Child =:= Gone] of
                [] -> ok;
                _ -> settle(Id, Nodes, Gone)
            end;
        {'EXIT', _} ->
            Monitor = monitor(process, Pid),
            receive {'DOWN', Monitor, _, _, _} -> ok end,
            settle(Above, Nodes, Pid)
    end.

%%% What was seen

%% The text of a step, and who is known now: #{Id => {pid() | undefined, IdAbove}}.
step(Collector, Tree, Root, Ended, Nodes) ->
    Log = log(Collector),
    Known = [{Pid, Id} || {Id, {Pid, _}} <- maps:to_list(Nodes)],
    New = [{Pid, Id} || {started, Id, Pid} <- Log],
    Acts = acts(Log, maps:from_list(Known ++ New), Ended),
    Rest = case Root of
               none -> #{};
               _ -> survey(element(2, Tree), Root, root, #{})
           end,
    Bar = [" " || Acts =/= []] ++ "|",
    {[lists:join(", ", Acts), Bar, [condition(Node) || Node <- lists:sort(maps:to_list(Rest))]], Rest}.

%% Acts in order. Ends holds the processes whose exit is not their supervisor's doing: workers that were made to end, and
%% supervisors from the moment they decide to.
acts([], _Names, _Ends) -> [];
acts([{started, Id, _} | Log], Names, Ends) -> [act("start", Id) | acts(Log, Names, Ends)];
acts([{refused, Id} | Log], Names, Ends) -> [act("refuse", Id) | acts(Log, Names, Ends)];
acts([{decides, Why, Pid} | Log], Names, Ends) ->
    What = case Why of
               restart -> "give_up";
               do_auto_shutdown -> "shut_down"
           end,
    [act(What, maps:get(Pid, Names)) | acts(Log, Names, [{decided, Pid} | Ends])];
acts([{exit, Pid, Reason} | Log], Names, Ends) ->
    case Names of
        #{Pid := Id} ->
            Act = case {lists:member(Pid, Ends), lists:member({decided, Pid}, Ends), Reason} of
                      {true, _, _} -> [];
                      {_, true, shutdown} -> [act("end", Id)];
                      {_, _, shutdown} -> [act("stop", Id)];
                      {_, _, killed} -> [act("kill", Id)]
                  end,
            Act ++ acts(Log, Names, Ends);
        %% A supervisor whose start failed; its refusal is in the log.
        _ -> acts(Log, Names, Ends)
    end.

act(What, Id) -> [What, $\s, integer_to_list(Id)].

survey(Id, Pid, Above, Nodes) ->
    lists:foldl(fun({Child, ChildPid, supervisor, _}, Acc) when is_pid(ChildPid) -> survey(Child, ChildPid, Id, Acc);
                   ({Child, ChildPid, _, _}, Acc) -> Acc#{Child => {ChildPid, Id}}
                end, Nodes#{Id => {Pid, Above}}, supervisor:which_children(Pid)).

condition({Id, {undefined, _}}) -> [" (", integer_to_list(Id), ")"];
condition({Id, _}) -> [" ", integer_to_list(Id)].

%% Everything seen since the last time, in order.
log(Collector) ->
    Delivered = erlang:trace_delivered(all),
    receive {trace_delivered, all, Delivered} -> ok end,
    Collector ! {sync, self()},
    receive synced -> ok end,
    Log = [Seen || {_, Seen} <- ets:tab2list(?LOG)],
    ets:delete_all_objects(?LOG),
    Log.

seen(Stamp, Seen) -> ets:insert(?LOG, {Stamp, Seen}).

seen(Seen) -> seen({erlang:monotonic_time(nanosecond), erlang:unique_integer([monotonic])}, Seen).

collect() ->
    receive
        {trace_ts, Pid, exit, Reason, Stamp} -> seen(Stamp, {exit, Pid, Reason});
        {trace_ts, Pid, return_from, {supervisor, Function, 2}, {shutdown, _}, Stamp} ->
            seen(Stamp, {decides, Function, Pid});
        {sync, From} -> From ! synced;
        _ -> ok
    end,
    collect().

%%% The tree

%% Runs in whoever starts the node.
start_node({supervisor, Id, _, _, _, _, _} = Spec) ->
    started(Id, supervisor:start_link(?MODULE, Spec));
start_node({worker, Id, _}) ->
    case ets:lookup(?REFUSALS, Id) of
        [{_, Left}] when Left > 0 ->
            ets:insert(?REFUSALS, {Id, Left - 1}),
            started(Id, {error, refused});
        _ -> started(Id, {ok, spawn_link(fun() -> process_flag(trap_exit, true), work() end)})
    end.

started(Id, {ok, Pid} = Result) -> seen({started, Id, Pid}), Result;
started(Id, Result) -> seen({refused, Id}), Result.

work() ->
    receive
        {finish, Reason} -> exit(Reason);
        {'EXIT', _, Reason} -> exit(Reason)
    end.

init({supervisor, _, Strategy, Intensity, Period, AutoShutdown, Children}) ->
    Flags = #{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => AutoShutdown},
    {ok, {Flags, [spec(Child) || Child <- Children]}}.

spec({Restart, Significant, Node}) ->
    {Type, Shutdown} = case Node of
                           {worker, _, grace} -> {worker, ?GRACE};
                           {worker, _, brutal_kill} -> {worker, brutal_kill};
                           _ -> {supervisor, infinity}
                       end,
    #{id => element(2, Node), start => {?MODULE, start_node, [Node]}, restart => Restart,
      significant => Significant, type => Type, shutdown => Shutdown}.
