"""A phone in text: screens of numbered rows, four actions, tasks with an exact checker. No vision.

    task = gui_task(seed=0, index=3, lengths=(1, 2))
    state = first_state(task)
    screen_text(task.phone, state)             # 'screen settings : 0 back , 1 sound , ...'
    state = act(task.phone, state, read_action("tap 1"))
    is_done(task, state), next_action(task, state)

Nineteen types of screen in eight apps; a window of `WINDOW` rows that scrolls; what is typed goes
to the field that was tapped. A layout says in which order rows stand, how apps are called, and
every number and time that can be asked for; `heldout=True` has layouts that training never shows.
A task is one wish or two, from any screen on its way, so that it takes 1 to 8 actions.
"""

from rlhf_jax.envs.gui.actions import ActionMarks as ActionMarks
from rlhf_jax.envs.gui.actions import GuiAction as GuiAction
from rlhf_jax.envs.gui.actions import mark_action as mark_action
from rlhf_jax.envs.gui.actions import read_action as read_action
from rlhf_jax.envs.gui.actions import write_action as write_action
from rlhf_jax.envs.gui.phone import SCREEN_TYPES as SCREEN_TYPES
from rlhf_jax.envs.gui.phone import Phone as Phone
from rlhf_jax.envs.gui.phone import make_phone as make_phone
from rlhf_jax.envs.gui.play import WINDOW as WINDOW
from rlhf_jax.envs.gui.play import GuiError as GuiError
from rlhf_jax.envs.gui.play import GuiState as GuiState
from rlhf_jax.envs.gui.play import act as act
from rlhf_jax.envs.gui.play import screen_text as screen_text
from rlhf_jax.envs.gui.tasks import EXTRA_STEPS as EXTRA_STEPS
from rlhf_jax.envs.gui.tasks import MAX_HORIZON as MAX_HORIZON
from rlhf_jax.envs.gui.tasks import GuiTask as GuiTask
from rlhf_jax.envs.gui.tasks import first_state as first_state
from rlhf_jax.envs.gui.tasks import gui_task as gui_task
from rlhf_jax.envs.gui.tasks import gui_words as gui_words
from rlhf_jax.envs.gui.tasks import is_done as is_done
from rlhf_jax.envs.gui.tasks import is_over as is_over
from rlhf_jax.envs.gui.tasks import next_action as next_action
from rlhf_jax.envs.gui.tasks import random_action as random_action
from rlhf_jax.envs.gui.tasks import solution as solution
from rlhf_jax.envs.gui.tasks import success_rates as success_rates
