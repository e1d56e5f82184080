# An emulation of the macros of CTK and Slicer for scripted modules.

# Scripts and resources keep their place relative to the source folder; the destination folder is installed as a whole,
# so what a path like ../file puts outside of it stays behind.
function(ctkMacroCompilePythonScript)
  cmake_parse_arguments(MY
    "NO_INSTALL_SUBDIR;GLOBAL_TARGET" "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(name IN ITEMS TARGET_NAME SCRIPTS DESTINATION_DIR INSTALL_DIR)
    if(NOT DEFINED MY_${name})
      message(FATAL_ERROR "${name} is mandatory")
    endif()
  endforeach()
  if(NOT DEFINED MY_SOURCE_DIR)
    set(MY_SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()

  set(copies)
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    set(source "${MY_SOURCE_DIR}/${file}")
    set(copy "${MY_DESTINATION_DIR}/${file}")
    add_custom_command(OUTPUT "${copy}" DEPENDS "${source}" COMMAND ${CMAKE_COMMAND} -E copy "${source}" "${copy}")
    list(APPEND copies "${copy}")
  endforeach()
  add_custom_target(Copy${MY_TARGET_NAME}PythonFiles ALL DEPENDS ${copies})

  set(directory "${MY_DESTINATION_DIR}")
  if(MY_NO_INSTALL_SUBDIR)
    set(directory "${MY_DESTINATION_DIR}/")
  endif()
  install(DIRECTORY "${directory}" DESTINATION "${MY_INSTALL_DIR}" COMPONENT RuntimeLibraries USE_SOURCE_PERMISSIONS)
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown keywords given to slicerMacroBuildScriptedModule(): ${MY_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT DEFINED MY_NAME)
    message(FATAL_ERROR "NAME is mandatory")
  endif()
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "slicerMacroBuildScriptedModule given nonexistent file '${file}'")
    endif()
  endforeach()

  set(subdir "")
  set(install_option NO_INSTALL_SUBDIR)
  if(MY_WITH_SUBDIR)
    get_filename_component(subdir "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    set(subdir "/${subdir}")
    set(install_option "")
  endif()
  ctkMacroCompilePythonScript(
    TARGET_NAME ${MY_NAME}
    SCRIPTS ${MY_SCRIPTS}
    RESOURCES ${MY_RESOURCES}
    DESTINATION_DIR "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}${subdir}"
    INSTALL_DIR "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    ${install_option}
    )
  if(BUILD_TESTING AND MY_WITH_GENERIC_TESTS)
    file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/qSlicer${MY_NAME}ModuleGenericTest.py" "# Slicer writes a test that loads the module\n")
    slicer_add_python_unittest(SCRIPT qSlicer${MY_NAME}ModuleGenericTest.py TESTNAME_PREFIX nomainwindow_)
  endif()
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  get_filename_component(name "${MY_SCRIPT}" NAME_WE)
  set(folders "['${CMAKE_CURRENT_BINARY_DIR}', '${CMAKE_CURRENT_SOURCE_DIR}']")
  add_test(
    NAME py_${MY_TESTNAME_PREFIX}${name}
    COMMAND ${Slicer_LAUNCHER_EXECUTABLE} --no-splash --testing ${MY_SLICER_ARGS}
      --python-code "import slicer.testing\\; slicer.testing.runUnitTest(${folders}, '${name}')"
    )
endfunction()
