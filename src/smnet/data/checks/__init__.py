"""Checks and statistics of data sets.

``check.check_clips`` decodes every clip and lists what is wrong, ``outputs`` writes its report and
the list of the sound clips, ``stats.survey_clips`` collects lengths, sizes and codecs.
"""
